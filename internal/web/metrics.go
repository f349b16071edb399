package web

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	flying   prometheus.Gauge
	long     prometheus.Gauge
	panics   prometheus.Counter
}

func newMetrics(r *prometheus.Registry) metrics {
	m := metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orderledger_http_requests_total", Help: "Requests answered.",
		}, []string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "orderledger_http_request_duration_seconds", Help: "Time from request to end of answer; streams and long polls left out.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method"}),
		flying: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "orderledger_http_requests_in_flight", Help: "Requests being answered; streams and long polls left out.",
		}),
		long: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "orderledger_http_long_requests", Help: "Streams and long polls that are open.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orderledger_http_panics_total", Help: "Requests that ended in a panic.",
		}),
	}
	r.MustRegister(m.requests, m.duration, m.flying, m.long, m.panics)
	return m
}

func (m metrics) observe(route, method string, status int, took time.Duration, long bool) {
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	if !long {
		m.duration.WithLabelValues(route, method).Observe(took.Seconds())
	}
}
