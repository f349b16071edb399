package servicebus

import (
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// ErrClosed is returned by what needs a publisher or subscriber that has been closed.
var ErrClosed = errors.New("closed")

// closeTimeout bounds how long closing waits for a bus that does not answer.
const closeTimeout = 5 * time.Second

// Connection says where the bus is and who connects. Either ConnectionString or Namespace is required.
type Connection struct {
	// ConnectionString is that of the Azure portal. With UseDevelopmentEmulator=true it may name a port, and the
	// connection is not encrypted.
	ConnectionString string
	// Namespace is a host, as in example.servicebus.windows.net.
	Namespace string
	// Credential proves the identity to Namespace; nil: the default credential of azidentity, which finds those of the
	// environment, of the workload, of a managed identity and of developer tools.
	Credential azcore.TokenCredential
	// Options are passed to the SDK; they may be nil. A [Subscriber] replaces RetryOptions by its own.
	Options *azservicebus.ClientOptions
}

// Client returns a client of the SDK for what this package does not do. The caller closes it.
func (c Connection) Client() (*azservicebus.Client, error) {
	var retry azservicebus.RetryOptions
	if c.Options != nil {
		retry = c.Options.RetryOptions
	}
	return c.client(retry)
}

// client returns a client, which connects when it is first used.
func (c Connection) client(retry azservicebus.RetryOptions) (*azservicebus.Client, error) {
	var options azservicebus.ClientOptions
	if c.Options != nil {
		options = *c.Options
	}
	options.RetryOptions = retry
	switch {
	case (c.ConnectionString == "") == (c.Namespace == ""):
		return nil, errors.New("either a connection string or a namespace is needed")
	case c.ConnectionString != "":
		client, err := azservicebus.NewClientFromConnectionString(c.ConnectionString, &options)
		if err != nil {
			return nil, errors.New("the connection string is not one") // the SDK's error may quote the key
		}
		return client, nil
	}
	if c.Credential == nil {
		found, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return nil, fmt.Errorf("finding a credential: %w", err)
		}
		c.Credential = found
	}
	client, err := azservicebus.NewClient(c.Namespace, c.Credential, &options)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return client, nil
}
