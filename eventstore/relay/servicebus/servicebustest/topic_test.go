package servicebustest_test

import (
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/orderledger/orderledger/eventstore/relay/servicebus/servicebustest"
)

func TestTopicFansOutByFilter(t *testing.T) {
	bus := servicebustest.New(t, nil)
	succeed(t, bus.CreateTopic("events", servicebustest.Topic{}))
	filters := map[string][]servicebustest.Rule{
		"all":     nil,
		"none":    {{Name: "no", Filter: servicebustest.FalseFilter{}}},
		"without": {},
		"subject": {{Name: "s", Filter: servicebustest.CorrelationFilter{Subject: "shipped"}}},
		"property": {{Name: "p", Filter: servicebustest.CorrelationFilter{
			ApplicationProperties: map[string]any{"region": "eu", "n": 7},
		}}},
		"either": {
			{Name: "s", Filter: servicebustest.CorrelationFilter{Subject: "shipped"}},
			{Name: "p", Filter: servicebustest.CorrelationFilter{ApplicationProperties: map[string]any{"region": "eu"}}},
		},
		"every field": {{Name: "e", Filter: servicebustest.CorrelationFilter{
			CorrelationID: "c", MessageID: "1", To: "t", ReplyTo: "r", Subject: "shipped", SessionID: "s",
			ReplyToSessionID: "rs", ContentType: "ct",
		}}},
	}
	for name, rules := range filters {
		if name == "every field" {
			name = "every"
		}
		succeed(t, bus.CreateSubscription("events", name, servicebustest.Subscription{Rules: rules}))
	}
	client := connect(t, bus)
	sender, err := client.NewSender("Events", nil) // names have no case
	succeed(t, err)
	for _, m := range []*azservicebus.Message{
		{
			MessageID: ptr("1"), Subject: ptr("shipped"), CorrelationID: ptr("c"), To: ptr("t"), ReplyTo: ptr("r"),
			SessionID: ptr("s"), ReplyToSessionID: ptr("rs"), ContentType: ptr("ct"),
		},
		{MessageID: ptr("2"), ApplicationProperties: map[string]any{"region": "eu", "n": int64(7)}},
		{MessageID: ptr("3"), Subject: ptr("shipped"), ApplicationProperties: map[string]any{"region": "eu", "n": int32(8)}},
	} {
		succeed(t, sender.SendMessage(bounded(t), m, nil))
	}
	for name, want := range map[string]string{
		"all": "123", "none": "", "without": "", "subject": "13", "property": "2", "either": "123", "every": "1",
	} {
		messages, err := bus.Messages(servicebustest.SubscriptionPath("events", name))
		succeed(t, err)
		got := ""
		for _, m := range messages {
			got += m.MessageID
		}
		expect(t, name, got, want)
	}
	receiver, err := client.NewReceiverForSubscription("events", "subject", nil)
	succeed(t, err)
	messages := receive(t, receiver, 2)
	expect(t, "place in the subscription", *messages[1].SequenceNumber, int64(2))
	expect(t, "place in the topic", *messages[1].EnqueuedSequenceNumber, int64(3))
	succeed(t, receiver.DeadLetterMessage(bounded(t), messages[1], nil))
	expect(t, "dead letters", counts(t, bus, "events/Subscriptions/subject").DeadLettered, 1)
	dead, err := client.NewReceiverForSubscription("events", "subject", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	succeed(t, err)
	expect(t, "dead letter", receive(t, dead, 1)[0].MessageID, "3")
}

func TestRulesChangeWhatComesFromThenOn(t *testing.T) {
	bus := servicebustest.New(t, nil)
	succeed(t, bus.CreateTopic("events", servicebustest.Topic{}))
	succeed(t, bus.CreateSubscription("events", "s", servicebustest.Subscription{}))
	path := servicebustest.SubscriptionPath("events", "s")
	sender, err := connect(t, bus).NewSender("events", nil)
	succeed(t, err)
	send(t, sender, "1")
	succeed(t, bus.RemoveRule(path, servicebustest.DefaultRule))
	send(t, sender, "2")
	succeed(t, bus.AddRule(path, servicebustest.Rule{Name: "three", Filter: servicebustest.CorrelationFilter{MessageID: "3"}}))
	send(t, sender, "3")
	expect(t, "messages", counts(t, bus, path).Active, 2)
	succeed(t, bus.Delete(path))
	send(t, sender, "4")
	if _, err := bus.Counts(path); err == nil {
		t.Error("a deleted subscription has counts")
	}
}

func TestScheduledOnATopicReachesSubscriptionsWhenDue(t *testing.T) {
	clock := servicebustest.NewFakeClock(time.Now())
	bus := servicebustest.New(t, &servicebustest.Config{Clock: clock})
	succeed(t, bus.CreateTopic("events", servicebustest.Topic{DefaultTimeToLive: time.Hour}))
	succeed(t, bus.CreateSubscription("events", "s", servicebustest.Subscription{}))
	path := servicebustest.SubscriptionPath("events", "s")
	sender, err := connect(t, bus).NewSender("events", nil)
	succeed(t, err)
	numbers, err := sender.ScheduleMessages(bounded(t), []*azservicebus.Message{{}, {}}, clock.Now().Add(time.Minute), nil)
	succeed(t, err)
	succeed(t, sender.CancelScheduledMessages(bounded(t), numbers[:1], nil))
	expect(t, "scheduled", counts(t, bus, "events").Scheduled, 1)
	expect(t, "in the subscription", counts(t, bus, path).Active, 0)
	clock.Advance(time.Minute)
	expect(t, "in the subscription when due", counts(t, bus, path).Active, 1)
	expect(t, "scheduled when due", counts(t, bus, "events").Scheduled, 0)
	clock.Advance(time.Hour)
	expect(t, "in the subscription after the topic's time to live", counts(t, bus, path).Active, 0)
}
