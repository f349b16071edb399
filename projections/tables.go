package projections

// tables are the read models: what follows from the ledger alone. Each names the columns of its key.
var tables = []table{
	{"orders", []string{"business_unit", "order_id", "source"}},
	{"timeline", []string{"business_unit", "order_id", "source", "revision"}},
	{"order_terms", []string{"business_unit", "value", "kind", "submitted", "order_id", "source"}},
	{"notifications", []string{"business_unit", "source", "told", "position", "n"}},
	{"conflicts", []string{"business_unit", "order_id", "source", "conflict"}},
	{"status_counts", []string{"business_unit", "source", "status"}},
	{"parked", []string{"source", "order_id"}},
	{"doubles", []string{"business_unit", "order_id", "source"}},
}

type table struct {
	name string
	key  []string
}

func tableNames() []string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.name
	}
	return names
}
