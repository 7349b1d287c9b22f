"""HTTP: metrics for Prometheus, verdicts for load balancers, a dashboard for people. All of it only reads."""
