"""Names of the consumer's cluster for pods at the provider: a DNS server that stands before the provider's own.

A pod asks for `web.shop.svc.cluster.local`; its namespace is called otherwise at the provider. `names` knows how a
name is called there and back, `messages` applies that to questions and answers, both pure; `server` asks and answers.
What is not of the consumer's cluster passes unchanged.
"""
