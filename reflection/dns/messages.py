"""DNS messages with the names of one cluster turned into those of the other. Pure.

Only owner names and the targets of CNAME, DNAME, PTR, NS and SRV records are names (RFC 1035, RFC 2782); all other
data passes as it is.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from reflection.dns.names import NameTable

_TARGETS: Final = frozenset(
    {dns.rdatatype.CNAME, dns.rdatatype.DNAME, dns.rdatatype.PTR, dns.rdatatype.NS, dns.rdatatype.SRV}
)
_TRANSFERS: Final = frozenset({dns.rdatatype.AXFR, dns.rdatatype.IXFR})
_NEGATIVE_TTL: Final = 5
"""Seconds that a client may remember that there is no such name: an offloaded namespace may come at any time."""
_SMALLEST: Final = 512
_LARGEST: Final = 4096


def refusal(query: dns.message.Message) -> int | None:
    """The response code for what is not answered; None for an ordinary question."""
    if query.opcode() != dns.opcode.QUERY:
        return dns.rcode.NOTIMP
    if len(query.question) != 1:
        return dns.rcode.FORMERR
    if query.question[0].rdtype in _TRANSFERS:
        return dns.rcode.REFUSED
    return None


def question_there(query: dns.message.Message, table: NameTable) -> dns.message.Message | None:
    """What to ask the provider's DNS; None if there is no such name."""
    asked = query.question[0]
    name = table.there(asked.name)
    if name is None:
        return None
    made = dns.message.Message(id=secrets.randbelow(65536))
    made.flags = query.flags
    made.question = [dns.rrset.RRset(name, asked.rdclass, asked.rdtype)]
    if query.edns >= 0:
        made.use_edns(query.edns, query.ednsflags, query.payload, options=list(query.options))
    return made


def answer_here(query: dns.message.Message, found: dns.message.Message, table: NameTable) -> dns.message.Message:
    """The provider's answer as an answer to what was asked."""
    made = dns.message.Message(id=query.id)
    made.flags = found.flags
    made.set_rcode(found.rcode())
    made.question = list(query.question)
    asked = {found.question[0].name: query.question[0].name} if found.question else {}
    for section in ("answer", "authority", "additional"):
        setattr(made, section, [_turned(rrset, asked, table) for rrset in getattr(found, section)])
    if query.edns >= 0 and found.edns >= 0:
        made.use_edns(found.edns, found.ednsflags, found.payload, options=list(found.options))
    return made


def no_such_name(query: dns.message.Message, table: NameTable) -> dns.message.Message:
    """The answer for a name of a namespace that is not at this provider (RFC 2308: with the zone's SOA)."""
    made = _response(query, dns.rcode.NXDOMAIN)
    made.flags |= dns.flags.AA
    zone = table.consumer_domain
    text = f"ns.dns.{zone} hostmaster.{zone} 1 7200 1800 86400 {_NEGATIVE_TTL}"
    soa = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.SOA, text)
    made.authority = [dns.rrset.from_rdata(zone, _NEGATIVE_TTL, soa)]
    return made


def failure(query: dns.message.Message, rcode: int) -> dns.message.Message:
    """An answer that says only why there is none."""
    return _response(query, rcode)


def encoded(query: dns.message.Message, answer: dns.message.Message, *, datagram: bool) -> bytes:
    """On the wire; a datagram that would be larger than the client takes says so, and the client asks again by TCP."""
    if not datagram:
        return answer.to_wire(max_size=65535)
    room = max(_SMALLEST, min(query.payload, _LARGEST)) if query.edns >= 0 else _SMALLEST
    try:
        return answer.to_wire(max_size=room)
    except dns.exception.TooBig:
        short = _response(query, answer.rcode())
        short.flags |= dns.flags.TC
        return short.to_wire(max_size=room)


def _response(query: dns.message.Message, rcode: int) -> dns.message.Message:
    made = dns.message.make_response(query, recursion_available=True)
    made.set_rcode(dns.rcode.Rcode.make(rcode))
    return made


def _turned(rrset: dns.rrset.RRset, asked: dict[dns.name.Name, dns.name.Name], table: NameTable) -> dns.rrset.RRset:
    def turn(name: dns.name.Name) -> dns.name.Name:
        return asked.get(name) or table.here(name)

    rdatas: list[Any] = list(rrset)
    if rrset.rdtype in _TARGETS:
        rdatas = [rdata.replace(target=turn(rdata.target)) for rdata in rdatas]
    return dns.rrset.from_rdata_list(turn(rrset.name), rrset.ttl, rdatas)
