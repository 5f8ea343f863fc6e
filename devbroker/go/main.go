// Command yadtq-devbroker is one Kafka-compatible broker for development and tests: franz-go's kfake in a process of
// its own. `yadtq-devbroker guard` runs another command and never outlives its parent (guard.go).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

type ready struct {
	Ready   bool     `json:"ready"`
	Kafka   string   `json:"kafka"`   // the first broker, enough to bootstrap from
	Brokers []string `json:"brokers"` // all of them, by node id
	Control *string  `json:"control"` // null without --control
}

// The guard forks from the main goroutine, and PDEATHSIG is tied to the thread that forks: the main thread, which
// lives as long as the process.
func init() { runtime.LockOSThread() }

func main() {
	run := serve
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "guard" {
		run, args = guard, args[1:]
	}
	if err := run(args); err != nil {
		fmt.Fprintln(os.Stderr, "yadtq-devbroker:", err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	flags := flag.NewFlagSet("yadtq-devbroker", flag.ExitOnError)
	addr := flags.String("addr", "127.0.0.1:0", "`host:port` (port 0: a free one; more brokers take the ports after it), or one for each broker, comma-separated")
	nodes := flags.Int("brokers", 1, "how many brokers")
	data := flags.String("data", "", "`folder` that keeps topics, records and committed offsets; none: memory")
	sync := flags.Bool("sync", true, "with --data, fsync every batch; without, data survives the process but maybe not the machine")
	compactEvery := flags.Duration("compact-every", time.Minute, "how often compacted topics are compacted; 0: never")
	retentionEvery := flags.Duration("retention-every", time.Minute, "how often retention.ms and retention.bytes are enforced; 0: never")
	controlAddr := flags.String("control", "", "loopback `host:port` of the fault injection channel; none: off")
	untilStdin := flags.Bool("exit-with-stdin", false, "end when standard input ends")
	verbose := flags.Bool("verbose", false, "log requests to standard error")
	configs := map[string]string{}
	flags.Func("config", "broker config `key=value`, repeatable", func(s string) error {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("want key=value")
		}
		configs[key] = value
		return nil
	})
	_ = flags.Parse(args) // ExitOnError

	addrs, err := brokerAddrs(*addr, *nodes)
	if err != nil {
		return err
	}
	level := kfake.LogLevelError
	if *verbose {
		level = kfake.LogLevelDebug
	}
	// Topics are never created by asking for them: kfake does that only with AllowAutoTopicCreation. It has no initial
	// rebalance delay either: a first join is answered at once.
	opts := []kfake.Opt{
		kfake.NumBrokers(len(addrs)), kfake.ListenFn(listenOn(addrs)), kfake.BrokerConfigs(configs),
		kfake.ClusterID("yadtq-devbroker"), kfake.WithLogger(kfake.BasicLogger(os.Stderr, level)),
	}
	opts = append(opts, loginOpts()...)
	if *data != "" {
		opts = append(opts, kfake.DataDir(*data))
		// kfake keeps passwords with the data, and prefers those to ours, which is of this start.
		if err := os.Remove(filepath.Join(*data, "sasl.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if *sync {
			opts = append(opts, kfake.SyncWrites())
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return err
	}
	defer cluster.Close() // writes snapshots; without it the next start replays the segments

	line := ready{Ready: true, Brokers: cluster.ListenAddrs()}
	line.Kafka = line.Brokers[0]
	if *controlAddr != "" {
		bound, err := serveControl(ctx, cluster, *controlAddr, len(addrs))
		if err != nil {
			return fmt.Errorf("control channel: %w", err)
		}
		line.Control = &bound
	}
	every(ctx, *compactEvery, cluster.Compact)
	every(ctx, *retentionEvery, cluster.ApplyRetention)
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		return err
	}
	if *untilStdin {
		go func() { _, _ = io.Copy(io.Discard, os.Stdin); stop() }()
	}
	<-ctx.Done()
	return nil
}

// brokerAddrs gives each broker its address. A wildcard host is refused: kfake tells clients the address it listens on.
func brokerAddrs(list string, nodes int) ([]string, error) {
	addrs := strings.Split(list, ",")
	if nodes < 1 || len(addrs) > 1 && len(addrs) != nodes {
		return nil, fmt.Errorf("%d addresses for --brokers %d", len(addrs), nodes)
	}
	for i := range nodes {
		if i == len(addrs) {
			addrs = append(addrs, addrs[i-1])
			host, port, _ := net.SplitHostPort(addrs[i])
			if n, _ := strconv.Atoi(port); n != 0 {
				addrs[i] = net.JoinHostPort(host, strconv.Itoa(n+1))
			}
		}
		host, _, err := net.SplitHostPort(addrs[i])
		if err != nil {
			return nil, fmt.Errorf("--addr: %w", err)
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			return nil, fmt.Errorf("--addr %s: name the address that clients use", addrs[i])
		}
	}
	return addrs, nil
}

// listenOn replaces the addresses that kfake asks for, one broker after the other, by ours.
func listenOn(addrs []string) func(network, address string) (net.Listener, error) {
	next := 0
	return func(network, _ string) (net.Listener, error) {
		next++
		listener, err := net.Listen(network, addrs[next-1])
		if err != nil || os.Getenv(passwordVariable) == "" {
			return listener, err
		}
		return handshakes{listener}, nil
	}
}

func every(ctx context.Context, period time.Duration, do func()) {
	if period <= 0 {
		return
	}
	go func() {
		ticker := time.NewTicker(period)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				do()
			}
		}
	}()
}
