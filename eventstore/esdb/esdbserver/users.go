package esdbserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	streamsproto "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"github.com/orderledger/orderledger/eventstore"
)

// users are digests of passwords by name, so that comparing takes the same time for all of them.
type users map[string][sha256.Size]byte

func newUsers(passwords map[string]string) users {
	u := make(users, len(passwords))
	for name, password := range passwords {
		u[name] = sha256.Sum256([]byte(password))
	}
	return u
}

func (u users) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := u.check(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (u users) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := u.check(stream.Context(), info.FullMethod); err != nil {
		if info.FullMethod == streamsproto.Streams_Append_FullMethodName {
			passOver(stream)
		}
		return err
	}
	return handler(srv, stream)
}

// check refuses calls without the name and password of a user, but for those by which clients find their way.
func (u users) check(ctx context.Context, method string) error {
	switch method {
	case gossip.Gossip_Read_FullMethodName, serverfeatures.ServerFeatures_GetSupportedMethods_FullMethodName:
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, value := range md.Get("authorization") {
		if u.knows(value) {
			return nil
		}
	}
	return status.Error(codes.Unauthenticated, "the call needs the name and the password of a user")
}

func (u users) knows(authorization string) bool {
	scheme, encoded, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return false
	}
	text, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return false
	}
	name, password, _ := strings.Cut(string(text), ":")
	want, known := u[name]
	got := sha256.Sum256([]byte(password))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && known
}

const usersStream = "$users"

// enterUsers appends those who are new to the stream of all users.
func (s *Server) enterUsers(ctx context.Context) error {
	if len(s.config.Users) == 0 {
		return nil
	}
	entered := make(map[string]bool)
	for e, err := range s.config.Store.ReadStream(ctx, usersStream, 0, eventstore.Forward) {
		if err != nil {
			return err
		}
		entered[string(e.Data)] = true
	}
	var events []eventstore.Event
	for _, name := range slices.Sorted(maps.Keys(s.config.Users)) {
		if !entered[name] {
			events = append(events, eventstore.Event{ID: uuid.New(), Type: "$User", Data: []byte(name)})
		}
	}
	if len(events) == 0 {
		return nil
	}
	_, err := s.config.Store.Append(ctx, usersStream, eventstore.Any, events)
	return err
}
