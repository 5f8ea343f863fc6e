package main

import (
	"net"
	"os"

	"github.com/twmb/franz-go/pkg/kfake"
)

// With passwordVariable in the environment, clients have to log in as user. It is no option: all users of a machine can read
// its command lines.
const (
	user             = "yadtq"
	passwordVariable = "DEVBROKER_PASSWORD"
)

var mechanisms = []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}

// loginOpts are kfake's options for a login, none without a password.
func loginOpts() []kfake.Opt {
	password := os.Getenv(passwordVariable)
	if password == "" {
		return nil
	}
	opts := []kfake.Opt{kfake.EnableSASL()}
	for _, mechanism := range mechanisms {
		opts = append(opts, kfake.Superuser(mechanism, user, password))
	}
	return opts
}

// handshakes makes the answers to SaslHandshake complete. kfake names the mechanisms of the server only if it refuses one, and
// aiokafka gives up unless its own is named.
type handshakes struct{ net.Listener }

func (listener handshakes) Accept() (net.Conn, error) {
	conn, err := listener.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &handshake{Conn: conn}, nil
}

type handshake struct {
	net.Conn
	done bool
}

// Write: size 10, correlation id, error 0, no mechanisms. No other answer looks like this before the login.
func (conn *handshake) Write(answer []byte) (int, error) {
	const size = 14
	if conn.done || len(answer) != size || string(answer[:4]) != "\x00\x00\x00\x0a" || string(answer[8:]) != "\x00\x00\x00\x00\x00\x00" {
		return conn.Conn.Write(answer)
	}
	conn.done = true
	full := append(append([]byte{}, answer[:size-1]...), byte(len(mechanisms)))
	for _, mechanism := range mechanisms {
		full = append(append(full, 0, byte(len(mechanism))), mechanism...)
	}
	full[3] = byte(len(full) - 4)
	if _, err := conn.Conn.Write(full); err != nil {
		return 0, err
	}
	return size, nil
}
