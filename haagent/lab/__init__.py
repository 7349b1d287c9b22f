"""A cluster in network namespaces of one machine, to rehearse, demonstrate, test and measure with; see
`lab.py`.
"""
