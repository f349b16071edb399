package relay_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/pebblestore"
	"github.com/orderledger/orderledger/eventstore/relay"
)

// BenchmarkRelay carries stored events through the bus in the process to an Apply that does nothing.
func BenchmarkRelay(b *testing.B) {
	store, err := pebblestore.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	data := fmt.Appendf(nil, `{"lines":[{"sku":%q,"quantity":"1"}]}`, make([]byte, 50))
	for i := 0; i < b.N; i += 100 {
		events := make([]eventstore.Event, min(100, b.N-i))
		for j := range events {
			events[j] = eventstore.Event{ID: uuid.New(), Type: "order.noted.v1", Data: data, Metadata: []byte(`{"business_unit":"b","epoch":1}`)}
		}
		if _, err := store.Append(b.Context(), fmt.Sprintf("order-%d", i), eventstore.NoStream, events); err != nil {
			b.Fatal(err)
		}
	}
	bus := relay.NewInProcess()
	left, all := b.N, make(chan struct{})
	consumer, err := relay.NewConsumer(relay.ConsumerConfig{Bus: bus, Apply: func(_ context.Context, deliveries []eventstore.Delivery) error {
		for _, d := range deliveries {
			if d.Event != nil {
				if left--; left == 0 {
					close(all)
				}
			}
		}
		return nil
	}})
	if err != nil {
		b.Fatal(err)
	}
	r, err := relay.New(relay.Config{Name: "bench", Ledger: store, Bus: bus})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 2)
	b.ReportAllocs()
	b.ResetTimer()
	go func() { ended <- consumer.Run(ctx) }()
	go func() { ended <- r.Run(ctx) }()
	<-all
	b.StopTimer()
	cancel()
	for range 2 {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			b.Error(err)
		}
	}
	if err := bus.Close(); err != nil {
		b.Error(err)
	}
}
