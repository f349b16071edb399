package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/eventstore/mirror"
)

// serve answers from one mirror.
func serve(t *testing.T, m *mirror.Mirror) (server *httptest.Server, client *mirror.Client) {
	t.Helper()
	id, _ := m.Identity()
	handler := mirror.NewHandler(mirror.HandlerConfig{Mirror: func(ledger uuid.UUID) *mirror.Mirror {
		if ledger == id.ID {
			return m
		}
		return nil
	}})
	server = httptest.NewServer(http.StripPrefix("/v1/mirrors", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		handler.ServeHTTP(w, r)
	})))
	t.Cleanup(server.Close)
	return server, &mirror.Client{URL: server.URL + "/v1/mirrors/", HTTP: server.Client(), Token: "secret"}
}

// confirm asks whether the append that ends at a position is there now, and returns the status of the answer.
func confirm(t *testing.T, m *mirror.Mirror, incarnation uint32, p eventstore.Position) int {
	t.Helper()
	id, _ := m.Identity()
	answer := httptest.NewRecorder()
	mirror.NewHandler(mirror.HandlerConfig{Mirror: func(uuid.UUID) *mirror.Mirror { return m }}).ServeHTTP(answer,
		httptest.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("/%s?incarnation=%d&position=%d", id.ID, incarnation, p), nil))
	return answer.Code
}

func TestConfirm(t *testing.T) {
	m, source, sent := followed(t, 5, nil)
	apply(t, m, sent[:3]...)
	server, client := serve(t, m)
	ctx := t.Context()
	id := head(t, source).ID

	if err := client.Wait(ctx, id, 0, sent[2].Position); err != nil {
		t.Errorf("what is there: %v", err)
	}
	done := make(chan error)
	go func() { done <- client.Wait(soon(t), id, 0, sent[4].Position) }()
	apply(t, m, sent[4]) // durable, but not linked
	apply(t, m, sent[3])
	if err := <-done; err != nil {
		t.Errorf("what comes: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 400*time.Millisecond)
	defer cancel()
	checkError(t, client.Wait(short, id, 0, sent[4].Position+1), mirror.ErrUnconfirmed, "503")
	checkError(t, client.Wait(ctx, uuid.New(), 0, 1), mirror.ErrUnconfirmed, "404")

	catchUp(t, m, changed{Reader: source, head: newerIncarnation})
	checkError(t, client.Wait(ctx, id, 0, sent[2].Position), mirror.ErrUnconfirmed, "409")

	client.Token = ""
	if err := client.Wait(ctx, id, 1, 1); err == nil || errors.Is(err, mirror.ErrUnconfirmed) {
		t.Errorf("a server that refuses: %v", err)
	}
	client.URL = "http://127.0.0.1:1"
	client.HTTP = nil
	if err := client.Wait(ctx, id, 1, 1); err == nil || errors.Is(err, mirror.ErrUnconfirmed) {
		t.Errorf("nobody: %v", err)
	}
	for url, status := range map[string]int{
		"/no":             http.StatusBadRequest,
		"/" + id.String(): http.StatusBadRequest,
		"/" + id.String() + "?incarnation=1&position=x":               http.StatusBadRequest,
		"/" + id.String() + "?incarnation=1&position=1&wait=long":     http.StatusBadRequest,
		"/" + id.String() + "?incarnation=1&position=1&wait=-1s":      http.StatusBadRequest,
		"/" + id.String() + "?incarnation=1&position=99":              http.StatusServiceUnavailable,
		"/" + id.String() + "?incarnation=0&position=1":               http.StatusConflict,
		"/" + uuid.NewString() + "?incarnation=1&position=1&wait=10m": http.StatusNotFound,
		"/" + id.String() + "?incarnation=1&position=1":               http.StatusOK,
	} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/v1/mirrors"+url, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer secret")
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		var fields map[string]any
		if err := json.Unmarshal(body, &fields); err != nil {
			t.Errorf("%s: %v", url, err)
		}
		if response.StatusCode != status || status != http.StatusOK && fields["status"] != float64(status) {
			t.Errorf("%s: %s %s, want %d", url, response.Status, body, status)
		}
		if status == http.StatusOK && (fields["ledger"] != id.String() || fields["incarnation"] != 1.0 || fields["position"] != float64(sent[4].Position) ||
			fields["chain"] != sent[4].Event.Chain.String()) {
			t.Errorf("%s: %s", url, body)
		}
	}
}

// TestConfirmationsThatAreNone has a server answer with something else than was asked for.
func TestConfirmationsThatAreNone(t *testing.T) {
	id := uuid.New()
	body := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
	defer server.Close()
	client := &mirror.Client{URL: server.URL, HTTP: server.Client()}
	hash := strings.Repeat("00", 32)
	for text, ok := range map[string]bool{
		`{"ledger":"` + id.String() + `","incarnation":1,"position":7,"chain":"` + hash + `"}`:         true,
		`{"ledger":"` + id.String() + `","incarnation":1,"position":6,"chain":"` + hash + `"}`:         false,
		`{"ledger":"` + id.String() + `","incarnation":2,"position":7,"chain":"` + hash + `"}`:         false,
		`{"ledger":"` + uuid.New().String() + `","incarnation":1,"position":7,"chain":"` + hash + `"}`: false,
		`{}`: false,
		`{`:  false,
	} {
		body = text
		if err := client.Wait(t.Context(), id, 1, 7); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
