"""The shop's report: how many orders there are."""

from redis import ask

print(f"{ask('SCARD', 'orders')} orders")
