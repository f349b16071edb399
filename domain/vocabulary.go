package domain

import "strings"

// The codes in force of ISO 3166-1 alpha-2.
const countries = " AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ" +
	" CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR" +
	" GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP" +
	" KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT" +
	" MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW" +
	" SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM" +
	" US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW "

// The codes of ISO 4217 that people pay with, by the digits of their minor units: those in force, and those withdrawn
// since 2025.
const (
	currencies0 = " BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF "
	currencies2 = " AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP" +
		" CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR" +
		" JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO" +
		" NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL" +
		" THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG "
	currencies3 = " BHD IQD JOD KWD LYD OMR TND "
	currencies4 = " CLF UYW "
)

// ValidCountry reports whether code is a country of ISO 3166-1 alpha-2.
func ValidCountry(code string) bool { return listed(countries, code, 2) }

// MinorUnits returns how many digits after the point people write amounts of a currency with, and whether ISO 4217
// has the currency.
func MinorUnits(currency string) (digits int, ok bool) {
	switch {
	case listed(currencies2, currency, 3):
		return 2, true
	case listed(currencies0, currency, 3):
		return 0, true
	case listed(currencies3, currency, 3):
		return 3, true
	case listed(currencies4, currency, 3):
		return 4, true
	}
	return 0, false
}

func listed(codes, code string, length int) bool {
	return len(code) == length && !strings.Contains(code, " ") && strings.Contains(codes, " "+code+" ")
}
