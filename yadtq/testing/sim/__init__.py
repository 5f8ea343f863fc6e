"""The system in one process, on virtual time: real workers, clients and supervisors on simulated servers."""
