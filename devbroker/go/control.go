package main

import (
	"bufio"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The control channel: one JSON object per line in, one per line out, {"ok": true, ...} or {"ok": false, "error": "..."}.
// It injects faults into the brokers of this process. All faults end with the process.
// Every line carries the token; after one that does not, or is no JSON, the connection is closed. So a web page can't have
// a browser of this machine send a command in the body of an HTTP request: the request line comes first.
type request struct {
	Op    string `json:"op"`
	Token string `json:"token"` // the one in the broker's environment

	// Which requests: of these kinds (none: all), on these nodes (none: all), Count of them (-1: until cleared).
	Kinds []string `json:"kinds"`
	Nodes []int32  `json:"nodes"`
	Count int      `json:"count"`

	// fail: answer Error for the topic, partitions or group; Applied says that the work is done nevertheless.
	Error      string  `json:"error"`
	Topic      string  `json:"topic"`
	Partitions []int32 `json:"partitions"`
	Group      string  `json:"group"`
	TopLevel   bool    `json:"top_level"`
	Applied    bool    `json:"applied"`

	Seconds   float64 `json:"seconds"`   // delay: before the request is handled; wait: the deadline
	Partition int32   `json:"partition"` // leader, move_leader
	Node      int32   `json:"node"`      // move_leader: the target, -1: the next
	ID        int     `json:"id"`        // hits, wait, remove: which fault
	Hits      int     `json:"hits"`      // wait: until the fault has met so many requests
}

type reply map[string]any

// installed is one fault, whatever it is made of.
type installed struct {
	hits   func() int
	remove func()
}

type control struct {
	cluster *kfake.Cluster
	nodes   int
	token   []byte

	mu     sync.Mutex
	faults map[int]installed
	nextID int
}

const tokenVariable = "DEVBROKER_CONTROL_TOKEN"

// serveControl listens on a loopback address, since the token is sent in the clear, and returns it.
func serveControl(ctx context.Context, cluster *kfake.Cluster, addr string, nodes int) (string, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return "", err
	}
	if !tcp.IP.IsLoopback() {
		return "", fmt.Errorf("%s is not a loopback address", addr)
	}
	token := os.Getenv(tokenVariable)
	if len(token) < 16 {
		return "", fmt.Errorf("%s in the environment: at least 16 characters, which commands have to carry", tokenVariable)
	}
	listener, err := net.ListenTCP("tcp", tcp)
	if err != nil {
		return "", err
	}
	ctl := &control{cluster: cluster, nodes: nodes, token: []byte(token), faults: map[int]installed{}}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go ctl.talk(conn)
		}
	}()
	return listener.Addr().String(), nil
}

func (ctl *control) talk(conn net.Conn) {
	defer conn.Close()
	lines, out := bufio.NewScanner(conn), json.NewEncoder(conn)
	for lines.Scan() {
		var answer reply
		var req request
		decoder := json.NewDecoder(strings.NewReader(lines.Text()))
		decoder.DisallowUnknownFields()
		err := decoder.Decode(&req)
		known := subtle.ConstantTimeCompare([]byte(req.Token), ctl.token) == 1
		switch {
		case !known:
			err = errors.New("no command with the token of this broker")
		case err == nil:
			answer, err = ctl.do(req)
		}
		if answer == nil {
			answer = reply{}
		}
		answer["ok"] = err == nil
		if err != nil {
			answer["error"] = err.Error()
		}
		if out.Encode(answer) != nil || !known {
			return
		}
	}
}

func (ctl *control) do(req request) (reply, error) {
	switch req.Op {
	case "fail":
		return ctl.fail(req)
	case "drop":
		return ctl.intercept(req, func() (error, bool) { return errors.New("dropped by a fault"), true })
	case "delay":
		pause := time.Duration(req.Seconds * float64(time.Second))
		return ctl.intercept(req, func() (error, bool) {
			ctl.cluster.SleepControl(func() { time.Sleep(pause) })
			return nil, false
		})
	case "hits", "wait", "remove":
		return ctl.known(req)
	case "clear":
		ctl.mu.Lock()
		defer ctl.mu.Unlock()
		for id, fault := range ctl.faults {
			fault.remove()
			delete(ctl.faults, id)
		}
		return nil, nil
	case "leader":
		node := ctl.cluster.LeaderFor(req.Topic, req.Partition)
		if node < 0 {
			return nil, errors.New("no such topic or partition")
		}
		return reply{"node": node}, nil
	case "move_leader":
		node := req.Node
		if node < 0 {
			node = (ctl.cluster.LeaderFor(req.Topic, req.Partition) + 1) % int32(ctl.nodes)
		}
		return reply{"node": node}, ctl.cluster.MoveTopicPartition(req.Topic, req.Partition, node)
	case "coordinator":
		return reply{"node": ctl.cluster.CoordinatorFor(req.Group)}, nil
	case "move_coordinator":
		return ctl.moveCoordinator(req.Group)
	case "compact":
		ctl.cluster.Compact()
		return nil, nil
	case "apply_retention":
		ctl.cluster.ApplyRetention()
		return nil, nil
	}
	return nil, fmt.Errorf("unknown op %q", req.Op)
}

// moveCoordinator rehashes all groups until this one has another coordinator.
func (ctl *control) moveCoordinator(group string) (reply, error) {
	if ctl.nodes < 2 {
		return nil, errors.New("one broker: there is nowhere to move a coordinator")
	}
	before := ctl.cluster.CoordinatorFor(group)
	for range 1000 {
		ctl.cluster.RehashCoordinators()
		if node := ctl.cluster.CoordinatorFor(group); node != before {
			return reply{"node": node}, nil
		}
	}
	return nil, errors.New("the coordinator did not move")
}

// applied is what kfake does before it answers REQUEST_TIMED_OUT (as Kafka may); other requests it answers undone.
var applied = []kmsg.Key{
	kmsg.Produce, kmsg.OffsetCommit, kmsg.TxnOffsetCommit, kmsg.DeleteRecords, kmsg.DeleteGroups, kmsg.CreateTopics,
	kmsg.DeleteTopics, kmsg.CreatePartitions, kmsg.AlterConfigs, kmsg.IncrementalAlterConfigs,
}

func (ctl *control) fail(req request) (reply, error) {
	keys, err := keysOf(req.Kinds)
	if err != nil {
		return nil, err
	}
	code, err := errorNamed(req.Error)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		does := code == kerr.RequestTimedOut && slices.Contains(applied, key) ||
			code == kerr.NotEnoughReplicasAfterAppend && key == kmsg.Produce
		if does != req.Applied {
			return nil, fmt.Errorf("%s answered with %s: the request is applied: %t, not %t", key.Name(), code.Message, does, req.Applied)
		}
	}
	if req.Applied && len(keys) == 0 {
		return nil, errors.New("applied: name the kinds")
	}
	handle := ctl.cluster.Fault(kfake.Fault{
		Keys: keys, Nodes: req.Nodes, Topic: req.Topic, Partitions: req.Partitions, Group: req.Group,
		TopLevel: req.TopLevel, Err: code, Count: req.Count,
	})
	return ctl.install(installed{hits: handle.Hits, remove: handle.Remove}), nil
}

// intercept meets requests before they are handled: act returns an error to close the connection, or false to go on.
func (ctl *control) intercept(req request, act func() (error, bool)) (reply, error) {
	keys, err := keysOf(req.Kinds)
	if err != nil {
		return nil, err
	}
	if req.Topic != "" || req.Group != "" || len(req.Partitions) > 0 {
		return nil, errors.New("drop and delay select by kind and node only")
	}
	if len(keys) == 0 {
		keys = []kmsg.Key{-1}
	}
	var met, left atomic.Int64
	left.Store(int64(req.Count))
	for _, key := range keys {
		ctl.cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			if left.Load() == 0 {
				ctl.cluster.DropControl()
				return nil, nil, false
			}
			if len(req.Nodes) > 0 && !slices.Contains(req.Nodes, ctl.cluster.CurrentNode()) {
				return nil, nil, false
			}
			ctl.cluster.KeepControl()
			if left.Load() > 0 {
				left.Add(-1)
			}
			met.Add(1)
			err, handled := act()
			return nil, err, handled
		})
	}
	return ctl.install(installed{hits: func() int { return int(met.Load()) }, remove: func() { left.Store(0) }}), nil
}

func (ctl *control) install(fault installed) reply {
	ctl.mu.Lock()
	defer ctl.mu.Unlock()
	ctl.nextID++
	ctl.faults[ctl.nextID] = fault
	return reply{"id": ctl.nextID}
}

// known answers for a fault by its id, spent ones included, until it is removed.
func (ctl *control) known(req request) (reply, error) {
	ctl.mu.Lock()
	fault, ok := ctl.faults[req.ID]
	ctl.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("no fault %d", req.ID)
	}
	switch req.Op {
	case "remove":
		fault.remove()
		ctl.mu.Lock()
		delete(ctl.faults, req.ID)
		ctl.mu.Unlock()
	case "wait":
		deadline := time.Now().Add(time.Duration(req.Seconds * float64(time.Second)))
		for fault.hits() < req.Hits && time.Now().Before(deadline) {
			time.Sleep(2 * time.Millisecond)
		}
	}
	return reply{"hits": fault.hits()}, nil
}

// keysOf takes the protocol's names of requests, as in Produce, Fetch, OffsetCommit, JoinGroup.
func keysOf(names []string) ([]kmsg.Key, error) {
	var keys []kmsg.Key
	for _, name := range names {
		found := false
		for key := kmsg.Key(0); key <= kmsg.MaxKey && !found; key++ {
			if found = strings.EqualFold(key.Name(), name); found {
				keys = append(keys, key)
			}
		}
		if !found {
			return nil, fmt.Errorf("no kind of request is named %q", name)
		}
	}
	return keys, nil
}

// errorNamed takes the protocol's names of errors, as in NOT_COORDINATOR.
func errorNamed(name string) (*kerr.Error, error) {
	for code := int16(-1); code < 500; code++ {
		if err := kerr.TypedErrorForCode(code); err != nil && strings.EqualFold(err.Message, name) {
			return err, nil
		}
	}
	return nil, fmt.Errorf("no error is named %q", name)
}
