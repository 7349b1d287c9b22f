"""Messages of proto/haagent/v1, made by `make proto`."""
