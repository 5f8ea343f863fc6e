//go:build !linux

package main

import "syscall"

// Without PDEATHSIG a SIGKILL of the guard itself leaves its command running; everything else holds.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
