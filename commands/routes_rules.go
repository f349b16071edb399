package commands

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/orderledger/orderledger/commands/rules"
	"github.com/orderledger/orderledger/domain"
	"github.com/orderledger/orderledger/eventstore"
	"github.com/orderledger/orderledger/internal/web"
)

// RulesInForce tells which rules judge and route the orders of a business unit.
type RulesInForce struct {
	BusinessUnit string            `json:"business_unit"`
	Name         string            `json:"name,omitempty"`
	SHA256       string            `json:"sha256,omitempty" doc:"Of the text; decisions name it"`
	Text         string            `json:"text,omitempty"`
	Activated    time.Time         `json:"activated,omitzero" doc:"Since when they are in force"`
	By           string            `json:"by,omitempty" doc:"Who activated them"`
	Warnings     []RulesWarning    `json:"warnings,omitempty"`
	BuiltIn      bool              `json:"built_in,omitempty" doc:"Nothing was activated yet; these are activated before the first order is judged"`
	Unreadable   string            `json:"unreadable,omitempty" doc:"Why newer rules are not in force: this version of the server cannot read them"`
	NotFollowing string            `json:"not_following,omitempty" doc:"Why what other servers activate is not seen just now"`
	History      []RulesActivation `json:"history,omitempty" doc:"The last activations, newest first"`
}

// A RulesWarning is something that a text allows and its author may not have meant.
type RulesWarning struct {
	Line    int    `json:"line" doc:"From 1; 0: the text as a whole"`
	Column  int    `json:"column,omitempty" doc:"From 1; 0: the line as a whole"`
	Place   string `json:"place,omitempty" doc:"Such as a row of a table"`
	Message string `json:"message"`
}

// A RulesActivation is one activation of a text.
type RulesActivation struct {
	Revision uint64       `json:"revision"`
	SHA256   string       `json:"sha256,omitempty"`
	Recorded time.Time    `json:"recorded"`
	Actor    domain.Actor `json:"actor"`
	Bytes    int          `json:"bytes" doc:"Length of the text"`
}

type rulesAnswer struct {
	Body RulesInForce
}

type activationRequest struct {
	Key     string `header:"Idempotency-Key" required:"true" doc:"Names the activation. 1 to 255 visible ASCII characters" example:"rules-2026-11"`
	RawBody []byte `contentType:"application/yaml"`
}

type activationAnswer struct {
	Mark     string `header:"Orderledger-Mark" doc:"Send it with a read to see this write"`
	Replayed string `header:"Idempotent-Replayed" enum:"true" doc:"Present where the text was in force already, or the request had been answered before; nothing was stored"`
	Body     struct {
		SHA256   string         `json:"sha256" doc:"Of the text; decisions name it"`
		Revision uint64         `json:"revision" doc:"Of the activation among those of the business unit"`
		Warnings []RulesWarning `json:"warnings,omitempty"`
	}
}

// rules registers the routes of the rules.
func (r *routes) rules(active *rules.Active) {
	huma.Register(r.api, huma.Operation{
		OperationID: "get-rules", Method: http.MethodGet, Path: "/v1/rules", Tags: []string{tagAdministration},
		Summary: "The rules in force and their history",
		Errors:  []int{http.StatusBadRequest, http.StatusServiceUnavailable},
	}, func(ctx context.Context, _ *struct{}) (*rulesAnswer, error) {
		status, err := active.Status(ctx, web.BusinessUnit(ctx))
		if err != nil {
			return nil, err
		}
		return &rulesAnswer{Body: rulesInForce(status)}, nil
	})

	huma.Register(r.api, huma.Operation{
		OperationID: "activate-rules", Method: http.MethodPut, Path: "/v1/rules", Tags: []string{tagAdministration},
		Summary: "Put rules into force",
		Description: "The text is a YAML file with decision tables. It is stored in the ledger and in force for every decision that begins after the answer, " +
			"on this server at once and on others a moment later. A text that is no rule set is refused with all its errors, and the rules in force stay. " +
			"The text that is in force already is not stored again.",
		MaxBodyBytes: rules.MaxText, BodyReadTimeout: 5 * time.Second,
		Errors: []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
			http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *activationRequest) (*activationAnswer, error) {
		return r.activate(ctx, active, in)
	})
}

func (r *routes) activate(ctx context.Context, active *rules.Active, in *activationRequest) (*activationAnswer, error) {
	key, err := web.ParseIdempotencyKey(in.Key)
	if err != nil {
		return nil, err
	}
	unit := web.BusinessUnit(ctx)
	activated, err := active.Activate(ctx, rules.Activation{
		BusinessUnit: unit,
		Text:         bytes.Clone(in.RawBody), // its buffer is used again
		Meta: domain.Meta{
			Command:      domain.CommandID(uuid.Nil, web.PrincipalFrom(ctx).Subject, "rules "+unit+" "+key),
			Actor:        actor(ctx),
			BusinessUnit: unit,
			Cause:        cause(ctx),
			Occurred:     r.handler.cfg.Now().UTC(),
		},
	})
	if err != nil {
		return nil, err
	}
	ledger := r.handler.ledger
	answer := &activationAnswer{Mark: eventstore.Mark{
		Ledger: ledger.ID, Incarnation: ledger.Incarnation, Position: activated.Position, Revision: activated.Revision,
	}.String(), Replayed: replayed(activated.Repeated)}
	answer.Body.SHA256, answer.Body.Revision, answer.Body.Warnings = activated.SHA256, activated.Revision, warnings(activated.Warnings)
	return answer, nil
}

func rulesInForce(s rules.Status) RulesInForce {
	r := RulesInForce{
		BusinessUnit: s.BusinessUnit, Name: s.Name, SHA256: s.SHA256, Text: s.Text, Warnings: warnings(s.Warnings),
		BuiltIn: s.BuiltIn, NotFollowing: s.NotFollowing,
	}
	if s.Unreadable != nil {
		r.Unreadable = s.Unreadable.Error
	}
	for _, h := range s.History {
		if h.Revision == s.Revision {
			r.Activated, r.By = h.Recorded, h.Actor.Subject
		}
		r.History = append(r.History, RulesActivation{Revision: h.Revision, SHA256: h.SHA256, Recorded: h.Recorded, Actor: h.Actor, Bytes: h.Bytes})
	}
	return r
}

func warnings(problems []rules.Problem) []RulesWarning {
	var list []RulesWarning
	for _, p := range problems {
		list = append(list, RulesWarning{Line: p.Line, Column: p.Column, Place: p.Place, Message: p.Text})
	}
	return list
}
