"""What others may ask of the agent: status, orders, and what must be measured."""
