package servicebustest

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"
)

// Control returns a handler by which other processes command the bus:
//
//	PUT    /queues/{name}                          creates a queue; the optional body is a Queue in JSON (durations in ns)
//	PUT    /topics/{name}                          creates a topic; the optional body is a Topic
//	PUT    /topics/{name}/subscriptions/{sub}      creates a subscription; the optional body is a Subscription without rules
//	DELETE /entities/{path...}                     deletes an entity
//	GET    /counts/{path...}                       answers its Counts
//	POST   /drop                                   cuts all connections
//	POST   /stop                                   stops
//	POST   /resume                                 resumes
//	POST   /restart?down=2s                        restarts, and answers when it is up again
//	POST   /faults/{path...}                       sets the Faults in the body
//	POST   /lose-locks/{path...}                   loses the locks of an entity
//
// It answers 204, or 200 with JSON; 404, 409 or 400 with an Error. Creating what exists already is a success. Names that
// contain a slash are escaped. Nobody is asked who they are: let it listen on the loopback only.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, serve func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, req *http.Request) {
			req.Body = http.MaxBytesReader(w, req.Body, 1<<20)
			answer, err := serve(req)
			s.answer(w, req, answer, err)
		})
	}
	route("PUT /queues/{name}", func(req *http.Request) (any, error) {
		return create(req, func(q Queue) error { return s.CreateQueue(req.PathValue("name"), q) })
	})
	route("PUT /topics/{name}", func(req *http.Request) (any, error) {
		return create(req, func(t Topic) error { return s.CreateTopic(req.PathValue("name"), t) })
	})
	route("PUT /topics/{name}/subscriptions/{sub}", func(req *http.Request) (any, error) {
		return create(req, func(sub Subscription) error {
			return s.CreateSubscription(req.PathValue("name"), req.PathValue("sub"), sub)
		})
	})
	route("DELETE /entities/{path...}", func(req *http.Request) (any, error) {
		return nil, s.Delete(req.PathValue("path"))
	})
	route("GET /counts/{path...}", func(req *http.Request) (any, error) {
		return s.Counts(req.PathValue("path"))
	})
	route("POST /drop", func(*http.Request) (any, error) {
		s.DropConnections()
		return nil, nil
	})
	route("POST /stop", func(*http.Request) (any, error) {
		s.Stop()
		return nil, nil
	})
	route("POST /resume", func(*http.Request) (any, error) {
		s.Resume()
		return nil, nil
	})
	route("POST /restart", func(req *http.Request) (any, error) {
		var down time.Duration
		if text := req.URL.Query().Get("down"); text != "" {
			var err error
			if down, err = time.ParseDuration(text); err != nil {
				return nil, refuse(InvalidField, "%v", err)
			}
		}
		s.Restart(req.Context(), down)
		return nil, nil
	})
	route("POST /faults/{path...}", func(req *http.Request) (any, error) {
		return create(req, func(f Faults) error { return s.SetFaults(req.PathValue("path"), f) })
	})
	route("POST /lose-locks/{path...}", func(req *http.Request) (any, error) {
		n, err := s.LoseLocks(req.PathValue("path"))
		return map[string]int{"lost": n}, err
	})
	return mux
}

// create reads a body, if there is one, and hands it over.
func create[T any](req *http.Request, with func(T) error) (any, error) {
	var body T
	if req.ContentLength != 0 {
		dec := json.NewDecoder(req.Body)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&body); err != nil {
			return nil, refuse(InvalidField, "%v", err)
		}
	}
	err := with(body)
	if refused := (*Error)(nil); errors.As(err, &refused) && refused.Condition == EntityAlreadyExists {
		return nil, nil
	}
	return nil, err
}

func (s *Server) answer(w http.ResponseWriter, req *http.Request, answer any, err error) {
	code := http.StatusOK
	if err != nil {
		res := failure(err)
		code = int(res.code)
		answer = Error{Condition: string(res.err.Condition), Description: res.err.Description}
	}
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		s.config.Logger.DebugContext(req.Context(), "an answer could not be written", slog.Any("error", err))
	}
}
