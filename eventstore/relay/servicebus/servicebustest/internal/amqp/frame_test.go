package amqp

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// goldenFrames are frames as clients send them.
func goldenFrames(t testing.TB) [][]byte {
	var frames [][]byte
	for _, p := range []performative{
		&openFrame{containerID: "c", hostname: "h", maxFrameSize: 65536, channelMax: 7, idleTimeout: 30_000, properties: Map{{Symbol("product"), "p"}}},
		&beginFrame{remoteChannel: new(uint16(1)), incomingWindow: 5000, outgoingWindow: 5000, handleMax: 255},
		&Attach{
			Name: "l", Handle: 1, Role: RoleReceiver, SenderSettleMode: SenderSettled, ReceiverSettleMode: ReceiverSecond,
			Source: &Source{
				Address: new("q"), Durable: 1, ExpiryPolicy: "session-end", Timeout: 2, Dynamic: true, DynamicNodeProperties: Map{},
				DistributionMode: "move", Filter: Map{{Symbol("com.microsoft:session-filter"), Described{uint64(0x137000000C), nil}}},
				DefaultOutcome: Described{codeModified, List{true}}, Outcomes: []Symbol{"amqp:accepted:list"}, Capabilities: []Symbol{"a", "b"},
			},
			Target:         &Target{Address: new("t"), Durable: 1, ExpiryPolicy: "never", Timeout: 2, Capabilities: []Symbol{"queue"}},
			MaxMessageSize: 1 << 20, Offered: []Symbol{"a"}, Desired: []Symbol{"b", "c"}, Properties: Map{{Symbol("com.microsoft:timeout"), uint32(5000)}},
		},
		&Attach{Name: "l", Role: RoleSender, SenderSettleMode: SenderMixed, InitialDelivery: 3},
		&flowFrame{
			nextIncomingID: new(uint32(1)), incomingWindow: 2, nextOutgoingID: 3, outgoingWindow: 4, handle: new(uint32(5)),
			deliveryCount: new(uint32(6)), linkCredit: new(uint32(7)), available: new(uint32(8)), drain: true, echo: true,
		},
		&transferFrame{handle: 1, deliveryID: new(uint32(2)), tag: []byte("tag"), format: new(BatchFormat), settled: new(true), more: true, aborted: true},
		&transferFrame{handle: 1},
		&dispositionFrame{role: RoleReceiver, first: 1, last: 5, settled: true, state: Accepted{}},
		&dispositionFrame{first: 1, last: 1, state: Released{}},
		&dispositionFrame{first: 1, last: 1, state: Received{1, 2}},
		&dispositionFrame{first: 1, last: 1, state: Rejected{&Error{Condition: "c", Description: "d", Info: Map{{Symbol("DeadLetterReason"), "r"}}}}},
		&dispositionFrame{first: 1, last: 1, state: Modified{true, true, Map{{Symbol("k"), List{int32(1)}}}}},
		&detachFrame{handle: 1, closed: true, err: &Error{Condition: DetachForced}},
		&endFrame{},
		&closeFrame{&Error{Condition: ConnectionForced, Description: "bye"}},
		&saslInit{mechanism: "ANONYMOUS", response: []byte("anonymous")},
	} {
		b, err := appendFrame(nil, typeAMQP, 9, p, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, b)
	}
	return frames
}

// What this side writes, it reads, and writes again in the same bytes.
func TestFramesComeBack(t *testing.T) {
	for _, b := range goldenFrames(t) {
		f, err := readFrame(bufio.NewReader(bytes.NewReader(b)), 1<<16)
		if err != nil {
			t.Errorf("%x: %v", b, err)
			continue
		}
		if again, err := appendFrame(nil, f.kind, f.channel, f.performative, f.payload); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%T came back as\n%x instead of\n%x (%v)", f.performative, again, b, err)
		}
	}
}

// Frames as the Service Bus client in Go has sent them.
func TestFramesOfClients(t *testing.T) {
	filter := Map{{Symbol("com.microsoft:session-filter"), Described{uint64(0x137000000C), nil}}}
	for _, golden := range []struct {
		bytes   string
		want    performative
		payload string
	}{
		{
			bytes: "0000002a02010000005341d00000001a00000002a309414e4f4e594d4f5553a009616e6f6e796d6f7573",
			want:  &saslInit{"ANONYMOUS", []byte("anonymous")},
		},
		{
			bytes: "0000002802000000005310d00000001800000005a1026d65a103683a317000010000407000007530",
			want:  &openFrame{containerID: "me", hostname: "h:1", maxFrameSize: 65536, channelMax: 65535, idleTimeout: 30_000},
		},
		{
			bytes: "0000002502000000005311d0000000150000000540437000001388700000138870fffffffe",
			want:  &beginFrame{incomingWindow: 5000, outgoingWindow: 5000, handleMax: 1<<32 - 2},
		},
		{
			bytes: "0000006702000000005312d00000005700000007a101724341405001005328d00000003f00000008a10171404040404040d10000002d00000002" +
				"a31c636f6d2e6d6963726f736f66743a73657373696f6e2d66696c7465720080000000137000000c4000532945",
			want: &Attach{
				Name: "r", Role: RoleReceiver, SenderSettleMode: SenderMixed, ReceiverSettleMode: ReceiverSecond,
				Source: &Source{Address: new("q"), Filter: filter}, Target: &Target{},
			},
		},
		{
			bytes: "0000003202000000005312d0000000220000000aa10173520142404000532845005329d00000000700000001a10171404043",
			want: &Attach{
				Name: "s", Handle: 1, Role: RoleSender, SenderSettleMode: SenderMixed, Source: &Source{}, Target: &Target{Address: new("q")},
			},
		},
		{
			bytes: "0000002402000000005313d0000000140000000743700000138843700000138843435201",
			want: &flowFrame{nextIncomingID: new(uint32(0)), incomingWindow: 5000, outgoingWindow: 5000, handle: new(uint32(0)),
				deliveryCount: new(uint32(0)), linkCredit: new(uint32(1))},
		},
		{
			bytes:   "0000002802000000005314d00000001200000004520143a008000000000000000043005375a00178",
			want:    &transferFrame{handle: 1, deliveryID: new(uint32(0)), tag: make([]byte, 8), format: new(uint32(0))},
			payload: "\x00\x53\x75\xa0\x01x",
		},
		{
			bytes: "0000006c02000000005315d00000005c0000000541434040005325d00000004c0000000100531dd00000004000000003" +
				"a319636f6d2e6d6963726f736f66743a646561642d6c657474657240d10000001b00000002a110446561644c6574746572526561736f6ea103626164",
			want: &dispositionFrame{role: RoleReceiver,
				state: Rejected{&Error{Condition: "com.microsoft:dead-letter", Info: Map{{"DeadLetterReason", "bad"}}}}},
		},
		{bytes: "0000001602000000005316d000000006000000024341", want: &detachFrame{closed: true}},
		{bytes: "0000000c0200000000531745", want: &endFrame{}},
		{bytes: "0000000c0200000000531845", want: &closeFrame{}},
	} {
		b, err := hex.DecodeString(golden.bytes)
		if err != nil {
			t.Fatal(err)
		}
		f, err := readFrame(bufio.NewReader(bytes.NewReader(b)), 1<<16)
		if err != nil {
			t.Errorf("%s: %v", golden.bytes, err)
			continue
		}
		unexported := cmp.Exporter(func(reflect.Type) bool { return true })
		if d := cmp.Diff(golden.want, f.performative, unexported); d != "" {
			t.Errorf("%s (-want +got):\n%s", golden.bytes, d)
		}
		if string(f.payload) != golden.payload {
			t.Errorf("%s has payload %x", golden.bytes, f.payload)
		}
	}
}

func FuzzDecodeFrame(f *testing.F) {
	for _, b := range goldenFrames(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			got, err := readFrame(r, 1<<16)
			if err != nil {
				return
			}
			if got.performative == nil {
				continue
			}
			again, err := appendFrame(nil, got.kind, got.channel, got.performative, got.payload)
			if err != nil {
				t.Fatalf("%+v was read but cannot be written: %v", got.performative, err)
			}
			back, err := readFrame(bufio.NewReader(bytes.NewReader(again)), 1<<20)
			if err != nil {
				t.Fatalf("%+v was written but cannot be read: %v", got.performative, err)
			}
			third, err := appendFrame(nil, back.kind, back.channel, back.performative, back.payload)
			if err != nil || !bytes.Equal(again, third) {
				t.Fatalf("%x became %x (%v)", again, third, err)
			}
		}
	})
}
