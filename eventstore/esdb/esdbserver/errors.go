package esdbserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"

	statusproto "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"

	"github.com/orderledger/orderledger/eventstore"
)

// errNotFound is returned for a stream without events, or that was deleted.
var errNotFound = errors.New("the stream does not exist")

// A deletedError tells that a stream has a tombstone, or was deleted where it had to exist.
type deletedError struct{ stream string }

func (e *deletedError) Error() string { return fmt.Sprintf("stream %q is deleted", e.stream) }

// An invalidError is why a request was refused that no server would take.
type invalidError struct{ reason string }

func (e *invalidError) Error() string { return e.reason }

func invalid(format string, args ...any) error {
	return &invalidError{fmt.Sprintf(format, args...)}
}

// A missingError tells which property an event of an append lacks.
type missingError struct{ property string }

func (e *missingError) Error() string {
	return fmt.Sprintf("an event lacks the property %q", e.property)
}

// trailed makes the error of a call, with trailers by which clients tell what has happened.
func trailed(ctx context.Context, code codes.Code, message string, pairs ...string) error {
	for i := 1; i < len(pairs); i += 2 {
		pairs[i] = printable(pairs[i])
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs(pairs...)); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return status.Error(code, message)
}

// printable escapes a value that a trailer cannot have.
func printable(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return url.PathEscape(s)
		}
	}
	return s
}

// failure makes the error of a call out of one of this package or of the ledger.
func (s *Server) failure(ctx context.Context, err error) error {
	var (
		conflict *eventstore.Conflict
		deleted  *deletedError
		refused  *invalidError
		missing  *missingError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &conflict):
		return trailed(ctx, codes.FailedPrecondition, err.Error(), "exception", "wrong-expected-version",
			"stream-name", conflict.Stream, "expected-version", number(conflict.Expected), "actual-version", number(conflict.Actual))
	case errors.As(err, &deleted):
		return trailed(ctx, codes.FailedPrecondition, err.Error(), "exception", "stream-deleted", "stream-name", deleted.stream)
	case errors.As(err, &missing):
		return trailed(ctx, codes.InvalidArgument, err.Error(),
			"exception", "missing-required-metadata-property", "required-metadata-properties", requiredProperties)
	case errors.Is(err, eventstore.ErrTooLarge):
		return trailed(ctx, codes.InvalidArgument, err.Error(),
			"exception", "maximum-append-size-exceeded", "maximum-append-size", strconv.Itoa(eventstore.MaxAppend))
	case errors.As(err, &refused), errors.Is(err, eventstore.ErrInvalid):
		return status.Error(codes.InvalidArgument, err.Error())
	case s.closing.Err() != nil:
		return status.Error(codes.Unavailable, "the server is closing")
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, eventstore.ErrFull):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, eventstore.ErrReadOnly):
		return trailed(ctx, codes.PermissionDenied, err.Error(), "exception", "access-denied")
	case eventstore.Unavailable(err):
		return status.Error(codes.Unavailable, err.Error())
	}
	if _, made := status.FromError(err); made {
		return err // by gRPC, or by this function
	}
	s.config.Logger.ErrorContext(ctx, "a call of EventStoreDB's protocol has failed", slog.Any("error", err))
	return status.Error(codes.Internal, err.Error())
}

// batchFailure is [Server.failure] for an append of a batch, which is told in an answer and ends no call.
func (s *Server) batchFailure(ctx context.Context, err error) *statusproto.Status {
	var (
		conflict *eventstore.Conflict
		deleted  *deletedError
		refused  *invalidError
		missing  *missingError
		code     codes.Code
		detail   proto.Message
	)
	switch {
	case errors.As(err, &conflict):
		code, detail = codes.AlreadyExists, wrongVersion(conflict)
	case errors.As(err, &deleted):
		code, detail = codes.NotFound, &shared.StreamDeleted{StreamIdentifier: identifier(deleted.stream)}
	case errors.Is(err, eventstore.ErrTooLarge):
		code, detail = codes.InvalidArgument, &shared.MaximumAppendSizeExceeded{MaxAppendSize: eventstore.MaxAppend}
	case errors.As(err, &refused), errors.As(err, &missing), errors.Is(err, eventstore.ErrInvalid):
		code, detail = codes.InvalidArgument, &shared.BadRequest{Message: err.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		code, detail = codes.DeadlineExceeded, &shared.Timeout{}
	case errors.Is(err, eventstore.ErrReadOnly):
		code, detail = codes.PermissionDenied, &shared.AccessDenied{}
	default:
		s.config.Logger.ErrorContext(ctx, "an append of EventStoreDB's protocol has failed", slog.Any("error", err))
		code, detail = codes.Unknown, &shared.Unknown{}
	}
	st := &statusproto.Status{Code: int32(code), Message: err.Error()}
	if packed, err := anypb.New(detail); err == nil { // it fails only for text that is not UTF-8
		st.Details = []*anypb.Any{packed}
	}
	return st
}

// number is an expected or actual revision as trailers have it.
func number(e eventstore.Expected) string { return strconv.FormatInt(int64(e), 10) }

func wrongVersion(c *eventstore.Conflict) *shared.WrongExpectedVersion {
	w := &shared.WrongExpectedVersion{}
	if c.Actual < 0 {
		w.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}}
	} else {
		w.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: uint64(c.Actual)}
	}
	switch c.Expected {
	case eventstore.NoStream:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &emptypb.Empty{}}
	case eventstore.Any:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedAny{ExpectedAny: &emptypb.Empty{}}
	case eventstore.StreamExists:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &emptypb.Empty{}}
	default:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: uint64(c.Expected)}
	}
	return w
}
