"""The command `haagentctl`: how people and programs look at a cluster, and steer it.

`main` knows the commands by name only and imports one when it is called for: a command that answers in a tenth of a
second is one that people use. `service` is what a cluster is asked, `agent` and `records` who answers it, `connect`
chooses between them; `facts` is what a status means; `show` is how things look.
"""
