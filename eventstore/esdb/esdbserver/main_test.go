package esdbserver_test

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(
		// The official client leaves a connection open when it is sent to the leader.
		"google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run"))
}
