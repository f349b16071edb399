package esdbserver

import (
	"context"
	"net"
	"strconv"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
)

// version is the release of EventStoreDB whose behaviour clients may expect. The official Go client takes numbers only.
const version = "24.6.0"

type features struct {
	serverfeatures.UnimplementedServerFeaturesServer
}

// GetSupportedMethods implements [serverfeatures.ServerFeaturesServer]. Names are in lower case.
func (features) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	const streams = "event_store.client.streams.streams"
	return &serverfeatures.SupportedMethods{
		EventStoreServerVersion: version,
		Methods: []*serverfeatures.SupportedMethod{
			{ServiceName: streams, MethodName: "read", Features: []string{"position", "events"}},
			{ServiceName: streams, MethodName: "append"},
			{ServiceName: streams, MethodName: "batchappend", Features: []string{"deadline_duration"}},
			{ServiceName: streams, MethodName: "delete"},
			{ServiceName: streams, MethodName: "tombstone"},
			{ServiceName: "event_store.client.server_features.serverfeatures", MethodName: "getsupportedmethods"},
			{ServiceName: "event_store.client.gossip.gossip", MethodName: "read"},
			{ServiceName: "event_store.client.persistent_subscriptions.persistentsubscriptions", MethodName: "create", Features: []string{"stream"}},
		},
	}, nil
}

type gossipService struct {
	gossip.UnimplementedGossipServer
	server *Server
}

// Read implements [gossip.GossipServer].
func (g *gossipService) Read(context.Context, *shared.Empty) (*gossip.ClusterInfo, error) {
	info := &gossip.ClusterInfo{}
	for n := range g.server.listeners {
		state := gossip.MemberInfo_Leader
		if n > 0 {
			state = gossip.MemberInfo_Follower
		}
		host, port := g.server.hostPort(n)
		id := g.server.id
		id[0] += byte(n)
		info.Members = append(info.Members, &gossip.MemberInfo{
			InstanceId:   structured(id),
			TimeStamp:    ticks(g.server.config.Now()),
			State:        state,
			IsAlive:      true,
			HttpEndPoint: &gossip.EndPoint{Address: host, Port: uint32(port)},
		})
	}
	return info, nil
}

func (s *Server) hostPort(n int) (host string, number int) {
	host, text, err := net.SplitHostPort(s.endpoint(n))
	if err != nil {
		return "", 0
	}
	number, _ = strconv.Atoi(text) // it was made from a number
	return host, number
}

// follower reports whether a call came in at one of the followers' addresses.
func (s *Server) follower(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	for _, l := range s.listeners[1:] {
		if port(p.LocalAddr) == port(l.Addr()) {
			return true
		}
	}
	return false
}

// A group is what a persistent subscription is known by.
type group struct{ stream, name string }

// maxGroups bounds what a server remembers.
const maxGroups = 10_000

type persistentService struct {
	persistent.UnimplementedPersistentSubscriptionsServer
	server *Server

	mu     sync.Mutex // guards what follows
	groups map[group]struct{}
}

// Create implements [persistent.PersistentSubscriptionsServer]: it takes note of a group to a stream for as long as the
// server runs.
func (p *persistentService) Create(ctx context.Context, req *persistent.CreateReq) (*persistent.CreateResp, error) {
	if p.server.follower(ctx) {
		host, port := p.server.hostPort(0)
		return nil, trailed(ctx, codes.NotFound, "this member is not the leader",
			"exception", "not-leader", "leader-endpoint-host", host, "leader-endpoint-port", strconv.Itoa(port))
	}
	o := req.GetOptions()
	if o.GetAll() != nil {
		return nil, status.Error(codes.Unimplemented, "persistent subscriptions to $all are not supported")
	}
	name := o.GetStream().GetStreamIdentifier().GetStreamName()
	if name == nil {
		name = o.GetStreamIdentifier().GetStreamName() //nolint:staticcheck // the field of clients before 21.10
	}
	g := group{stream: string(name), name: o.GetGroupName()}
	if g.stream == "" || g.name == "" {
		return nil, status.Error(codes.InvalidArgument, "a persistent subscription needs a stream and a group")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, exists := p.groups[g]; exists {
		return nil, trailed(ctx, codes.AlreadyExists, "the persistent subscription exists",
			"exception", "persistent-subscription-exists", "stream-name", g.stream, "group-name", g.name)
	}
	if len(p.groups) == maxGroups {
		return nil, status.Error(codes.ResourceExhausted, "there are too many persistent subscriptions")
	}
	p.groups[g] = struct{}{}
	return &persistent.CreateResp{}, nil
}

// Read implements [persistent.PersistentSubscriptionsServer]: it refuses, once the client has said what it wants, because
// clients do not look for the reason before.
func (p *persistentService) Read(call persistent.PersistentSubscriptions_ReadServer) error {
	if _, err := call.Recv(); err != nil {
		return err
	}
	return p.UnimplementedPersistentSubscriptionsServer.Read(call)
}
