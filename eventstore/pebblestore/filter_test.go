package pebblestore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

func TestFilterForgetsNoName(t *testing.T) {
	const adders, names = 4, firstLayer // more than one layer
	f := newFilter()
	var wg sync.WaitGroup
	for a := range adders {
		var done atomic.Int64
		wg.Go(func() {
			for n := range names {
				f.add(fmt.Sprintf("order-%d-%d", a, n))
				done.Store(int64(n + 1))
			}
		})
		wg.Go(func() {
			for n := int64(0); n < names; {
				for until := done.Load(); n < until; n++ {
					if name := fmt.Sprintf("order-%d-%d", a, n); !f.mayHave(name) {
						t.Errorf("%s was forgotten", name)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	for a := range adders {
		for n := range names {
			if name := fmt.Sprintf("order-%d-%d", a, n); !f.mayHave(name) {
				t.Fatalf("%s was forgotten", name)
			}
		}
	}
	if n := len(*f.layers.Load()); n != 2 {
		t.Errorf("%d layers", n)
	}
}

func TestFilterIsSeldomWrong(t *testing.T) {
	for _, names := range []int{0, 1000, firstLayer, 5 * firstLayer} {
		f := newFilter()
		for n := range names {
			f.add(fmt.Sprint("order-", n))
		}
		const asked = 20000
		wrong := 0
		for n := range asked {
			if f.mayHave(fmt.Sprint("command-", n)) {
				wrong++
			}
		}
		if limit := asked * 2 / 100; names > 0 && wrong > limit || names == 0 && wrong > 0 {
			t.Errorf("of %d names that are not among %d, %d may be: at most %d should", asked, names, wrong, limit)
		}
	}
}
