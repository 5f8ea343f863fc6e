package main

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// guard runs a command that must not outlive the process that started the guard, whatever kills either of them:
//
//   - the parent ends, even by SIGKILL: standard input ends, or getppid changes (a forked child of the parent may hold
//     the other end of the pipe open); the command gets SIGTERM, and SIGKILL after the grace
//   - the guard itself is killed: the kernel kills the command (PDEATHSIG; Linux only)
//   - the command is frozen by SIGSTOP: it is continued to be ended, and SIGKILL needs no co-operation
//
// It prints {"pid": N} of the command, whose signals are the caller's business, and exits with its status.
func guard(args []string) error {
	flags := flag.NewFlagSet("yadtq-devbroker guard", flag.ExitOnError)
	grace := flags.Duration("grace", 5*time.Second, "between SIGTERM and SIGKILL")
	quiet := flags.Bool("quiet", false, "the command's standard output goes to standard error")
	_ = flags.Parse(args) // ExitOnError; stops at "--"
	if flags.NArg() == 0 {
		return errors.New("guard: no command")
	}
	parent := os.Getppid()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)

	command := exec.Command(flags.Arg(0), flags.Args()[1:]...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if *quiet {
		command.Stdout = os.Stderr
	}
	command.SysProcAttr = childAttr()
	if err := command.Start(); err != nil {
		return err
	}
	pid := command.Process.Pid
	if err := json.NewEncoder(os.Stdout).Encode(map[string]int{"pid": pid}); err != nil {
		_ = command.Process.Kill()
	}

	ended := make(chan struct{})
	go func() { _ = command.Wait(); close(ended) }()
	orphaned := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(orphaned) }()
	ppid := time.NewTicker(500 * time.Millisecond)
	defer ppid.Stop()

	var killAt <-chan time.Time
	end := func() {
		if killAt != nil {
			return
		}
		killAt = time.After(*grace)
		_ = syscall.Kill(pid, syscall.SIGTERM)
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	for {
		select {
		case <-ended:
			_ = syscall.Kill(-pid, syscall.SIGKILL) // what the command forked and left, such as a log rewrite
			os.Exit(exitCode(command.ProcessState))
		case <-orphaned:
			orphaned = nil
			end()
		case <-signals:
			end()
		case <-ppid.C:
			if os.Getppid() != parent {
				end()
			}
		case <-killAt:
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		}
	}
}

// exitCode is the shell's: 128 + N for a command ended by signal N.
func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}
