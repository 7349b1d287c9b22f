"""From haagent.yaml to rules that the core accepts: read, validate, explain what is wrong and where."""
