package edge

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

type metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	retries  prometheus.Counter
	refused  prometheus.Counter
	resumed  *prometheus.CounterVec
	broken   *prometheus.CounterVec
}

func newMetrics(r *prometheus.Registry, e *Edge) metrics {
	m := metrics{
		handler: promhttp.HandlerFor(r, promhttp.HandlerOpts{}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orderledger_edge_requests_total", Help: "Requests sent to a region, each attempt by itself.",
		}, []string{"region", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "orderledger_edge_answer_seconds", Help: "Time until a region began to answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"region"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orderledger_edge_retries_total", Help: "Requests that were sent again, to another region.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orderledger_edge_retries_refused_total", Help: "Requests that were not sent again because too many had been.",
		}),
		resumed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orderledger_edge_streams_resumed_total", Help: "Streams that went on in a region after another broke them off.",
		}, []string{"region"}),
		broken: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orderledger_edge_answers_broken_total", Help: "Answers that a region broke off after a part had been passed on.",
		}, []string{"region"}),
	}
	r.MustRegister(m.requests, m.duration, m.retries, m.refused, m.resumed, m.broken, regionCollector{e},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "orderledger_edge_requests_in_flight", Help: "Requests under way, streams included.",
		}, func() float64 { return float64(len(e.flying)) }))
	return m
}

func (o Outcome) String() string { return [...]string{"answered", "failed", "unknown"}[o] }

var (
	upDesc = prometheus.NewDesc("orderledger_edge_region_up",
		"1 while a region gets its requests; 0 while its breaker is open or half-open, or it is not ready.", []string{"region"}, nil)
	latencyDesc = prometheus.NewDesc("orderledger_edge_region_latency_seconds",
		"How long probes of a region take, smoothed.", []string{"region"}, nil)
)

// regionCollector shows the regions of the topology that is in force.
type regionCollector struct{ edge *Edge }

func (regionCollector) Describe(c chan<- *prometheus.Desc) {
	c <- upDesc
	c <- latencyDesc
}

func (rc regionCollector) Collect(c chan<- prometheus.Metric) {
	for _, r := range rc.edge.Status().Regions {
		up := 0.0
		if r.State == closed.String() && r.Ready {
			up = 1
		}
		c <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, up, r.Name)
		c <- prometheus.MustNewConstMetric(latencyDesc, prometheus.GaugeValue, r.LatencyMS/1000, r.Name)
	}
}
