package optics

import "github.com/orderledger/orderledger/domain"

// An article of the catalogue. Prices are in hundredths of a euro.
type article struct {
	sku, name string
	cents     int64
	most      int // how many a customer takes at most
}

// stock are articles that lie in warehouses.
var stock = []article{
	{"LENS-ST-150", "Single vision lens, index 1.50", 1890, 60},
	{"LENS-ST-160", "Single vision lens, index 1.60", 3240, 40},
	{"LENS-ST-167B", "Single vision lens, index 1.67, blue filter", 5675, 30},
	{"LENS-CL-30D", "Monthly contact lenses, box of 6", 2495, 80},
	{"LENS-CL-01D", "Daily contact lenses, box of 90", 6150, 50},
	{"FRAME-OSLO-52", "Frame Oslo, titanium, 52 mm", 8900, 12},
	{"FRAME-LAGOS-49", "Frame Lagos, acetate, 49 mm", 6450, 12},
	{"FRAME-KIDS-44", "Frame Kids, flexible, 44 mm", 3999, 20},
	{"BINO-8X32", "Binoculars 8×32", 34900, 4},
	{"BINO-10X42", "Binoculars 10×42", 57900, 4},
	{"PHOTO-35-F2", "Photo lens 35 mm f/2", 79900, 3},
	{"PHOTO-UV-67", "UV filter 67 mm", 4250, 25},
	{"CARE-CLOTH-5", "Microfibre cloths, pack of 5", 795, 200},
	{"CARE-SPRAY-100", "Lens spray, 100 ml", 645, 200},
	{"PART-NOSE-20", "Nose pads, 20 pairs", 1125, 40},
}

// made are articles that a plant makes for one order.
var made = []article{
	{"LENS-RX-SV160", "Prescription lens, single vision, index 1.60", 7450, 2},
	{"LENS-RX-PROG", "Prescription lens, progressive", 18900, 2},
	{"LENS-RX-OFFICE", "Prescription lens, office distance", 12600, 2},
	{"MICRO-M2", "Laboratory microscope M2", 418000, 2},
	{"SCOPE-85A", "Spotting scope 85 mm, angled", 189900, 2},
}

// A market is a country with its currency, the price of a hundred euros in it, and a customer's ordinary size.
type market struct {
	country, currency string
	rate              int64 // of the currency's main units for 100 euros
	name              string
}

// markets are the forty countries that the maker sells to.
var markets = []market{
	{"DE", "EUR", 100, "Optik Sternberg"}, {"FR", "EUR", 100, "Lunettes Beaurepaire"}, {"IT", "EUR", 100, "Ottica Valdarno"},
	{"ES", "EUR", 100, "Óptica Mirador"}, {"PT", "EUR", 100, "Óptica Ribeirinha"}, {"NL", "EUR", 100, "Brillenhuis De Vecht"},
	{"BE", "EUR", 100, "Optiek Leiezicht"}, {"AT", "EUR", 100, "Augenblick Wienerwald"}, {"IE", "EUR", 100, "Liffey Eyecare"},
	{"FI", "EUR", 100, "Järvi Optiikka"}, {"GR", "EUR", 100, "Optika Aigaio"}, {"SK", "EUR", 100, "Optika Dunajská"},
	{"CH", "CHF", 94, "Brillen Aareblick"}, {"GB", "GBP", 85, "Pennine Opticians"}, {"SE", "SEK", 1120, "Glasögon Mälaren"},
	{"DK", "DKK", 746, "Øresund Optik"}, {"NO", "NOK", 1170, "Fjordsyn Optikk"}, {"PL", "PLN", 430, "Optyk Wiślany"},
	{"CZ", "CZK", 2510, "Oční Vltava"}, {"HU", "EUR", 100, "Duna Optika"}, {"RO", "EUR", 100, "Optica Carpați"},
	{"TR", "EUR", 100, "Marmara Gözlük"}, {"UA", "EUR", 100, "Optyka Dnipro"}, {"US", "USD", 110, "Prairie Vision"},
	{"CA", "USD", 110, "Laurentian Optical"}, {"MX", "MXN", 2050, "Óptica Sierra Madre"}, {"BR", "BRL", 610, "Ótica Guanabara"},
	{"AR", "USD", 110, "Óptica Riachuelo"}, {"CL", "USD", 110, "Óptica Maipo"}, {"CO", "USD", 110, "Óptica Magdalena"},
	{"JP", "JPY", 16300, "Megane Kamogawa"}, {"CN", "CNY", 780, "Taihu Optical"}, {"KR", "KRW", 158000, "Hangang Optics"},
	{"IN", "INR", 9300, "Yamuna Eye Care"}, {"SG", "USD", 110, "Kallang Vision"}, {"MY", "USD", 110, "Klang Optik"},
	{"TH", "USD", 110, "Chao Phraya Optic"}, {"AU", "USD", 110, "Yarra Eyewear"}, {"NZ", "USD", 110, "Waikato Optics"},
	{"ZA", "USD", 110, "Umgeni Optometrists"},
}

// price is what an article costs in a market, in the currency's minor units rounded to what people pay.
func price(a article, m market) domain.Decimal {
	units, _ := domain.MinorUnits(m.currency)
	if units == 0 {
		return domain.Whole(a.cents * m.rate / 10_000)
	}
	cents, _ := domain.Whole(a.cents * m.rate / 100).Quo(domain.Whole(100))
	return cents
}
