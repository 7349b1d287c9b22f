"""The commands haagent and haagentctl: arguments in, exit codes and text out."""
