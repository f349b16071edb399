"""Adds up the invoices of online_retail_cc0.csv.gz, plainly, to compare an import of them with.

Usage: python3 totals.py FILE [-v]

An invoice is an order; one whose number begins with C is a credit, whose quantities are below zero. A line with
another sign, or with a price below zero, does not count. Per customer, country and day, for orders and credits apart,
it prints how many rows there are and the SHA-256 of the rows "key,quantity,money", each with a line feed, in byte
order, numbers without superfluous zeros. With -v it prints the rows, too.
"""

import collections
import csv
import decimal
import gzip
import hashlib
import sys

decimal.getcontext().prec = 40


def plain(n):
    text = format(n, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


day_of, lines, codes = {}, collections.Counter(), collections.Counter()
tables = collections.defaultdict(lambda: collections.defaultdict(lambda: [decimal.Decimal(0)] * 2))
with gzip.open(sys.argv[1], "rt", encoding="utf-8", newline="") as f:
    for row in csv.DictReader(f):
        lines["in"] += 1
        credit = row["InvoiceNo"].startswith("C")
        quantity = decimal.Decimal(row["Quantity"]) * (-1 if credit else 1)
        price = decimal.Decimal(row["UnitPrice"])
        code = ""
        if quantity == 0:
            code = "zero_quantity"
        elif quantity < 0:
            code = "positive_quantity_in_credit" if credit else "negative_quantity"
        elif price < 0:
            code = "negative_price"
        if code:
            codes[code] += 1
            continue
        lines["used"] += 1
        # The day of an order is that of its first line.
        day = day_of.setdefault(row["InvoiceNo"], row["InvoiceDate"][:10])
        kind = "return" if credit else "standard"
        for table, key in [
            ("customer", row["CustomerID"] or "unknown"),
            ("country", row["Country"]),
            ("day", day),
            ("all", "all"),
        ]:
            old = tables[table, kind][key]
            tables[table, kind][key] = [old[0] + quantity, old[1] + quantity * price]

credits = sum(1 for number in day_of if number.startswith("C"))
print("lines", dict(lines), "rejected", dict(codes))
print("orders", len(day_of) - credits, "credits", credits)
for (table, kind), rows in sorted(tables.items()):
    text = "".join(sorted(f"{key},{plain(q)},{plain(m)}\n" for key, (q, m) in rows.items()))
    print(table, kind, len(rows), hashlib.sha256(text.encode()).hexdigest())
    if "-v" in sys.argv or table == "all":
        print(text, end="")
