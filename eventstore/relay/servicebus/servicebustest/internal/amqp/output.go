package amqp

import (
	"bytes"
	"time"
)

const (
	crowdedAt = 1 << 20   // bytes of unwritten frames beyond which the peer is not read
	fillTo    = 256 << 10 // bytes of unwritten frames up to which messages are added to them
	unsentMax = 8 << 20   // bytes of messages beyond which no more are taken over to be sent
)

// send appends a frame to what the writer will write. Nothing follows a close.
func (c *Conn) send(channel uint16, p performative) error { return c.sendPayload(channel, p, nil) }

func (c *Conn) sendPayload(channel uint16, p performative, payload []byte) error {
	if c.closing {
		return nil
	}
	c.endRun()
	out, err := appendFrame(c.out, typeAMQP, channel, p, payload)
	if err != nil {
		return err
	}
	c.out = out
	c.written()
	return nil
}

// written wakes up the writer, unless more will come at once.
func (c *Conn) written() {
	if !c.held || len(c.out) >= fillTo {
		notify(c.wake)
	}
}

// release lets the writer write what the loop has held back.
func (c *Conn) release() {
	c.held = false
	if len(c.out) > 0 || c.run.session != nil {
		notify(c.wake)
	}
}

// crowded says whether much waits to be written.
func (c *Conn) crowded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.out) > crowdedAt
}

// write writes what there is, in as few calls as possible, and an empty frame when there has been nothing for a while.
func (c *Conn) write() error {
	quiet := keepaliveEvery
	if idle := time.Duration(c.peer.idleTimeout) * time.Millisecond; idle > 0 {
		quiet = min(quiet, idle/2)
	}
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for {
		alive, last := false, false
		select {
		case <-c.wake:
		case <-timer.C:
			alive = true
			timer.Reset(quiet)
		case <-c.ending:
			last = true
		}
		for {
			b := c.take(alive)
			if len(b) == 0 {
				break
			}
			if err := c.nc.SetWriteDeadline(time.Now().Add(c.cfg.IdleTimeout)); err != nil {
				return err
			}
			if _, err := c.nc.Write(b); err != nil {
				return err
			}
			timer.Reset(quiet)
			alive = false
		}
		if last {
			return nil
		}
	}
}

// take returns what is to be written now, and lets messages that wait for room come up. When alive is true, there must be something.
func (c *Conn) take(alive bool) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held && !alive && len(c.out) < fillTo {
		return nil
	}
	c.endRun()
	if alive && len(c.out) == 0 && !c.closing {
		c.out, _ = appendFrame(c.out, typeAMQP, 0, nil, nil) // an empty frame cannot fail
	}
	c.out, c.spare = c.spare[:0], c.out
	waiting := c.waiting
	c.waiting = nil
	for _, s := range waiting {
		s.pump()
	}
	notify(c.drained)
	return c.spare
}

// A run is a disposition of neighbouring deliveries with the same outcome.
type run struct {
	session *session
	frame   dispositionFrame
	state   []byte
}

// dispose tells the peer about one delivery, together with its neighbours if they come one after the other.
func (s *session) dispose(role Role, id uint32, settled bool, state State) {
	c := s.conn
	if c.closing || s.ended {
		return
	}
	encoded, _ := AppendValue(nil, stateField(state)) // made of what can be encoded
	r := &c.run
	if r.session == s && r.frame.role == role && r.frame.settled == settled && r.frame.last+1 == id && bytes.Equal(r.state, encoded) {
		r.frame.last = id
		return
	}
	c.endRun()
	c.run = run{s, dispositionFrame{role: role, first: id, last: id, settled: settled, state: state}, encoded}
	c.written()
}

// endRun appends the disposition that has been growing.
func (c *Conn) endRun() {
	r := c.run
	if r.session == nil {
		return
	}
	c.run = run{}
	_ = c.send(r.session.channel, &r.frame)
}
