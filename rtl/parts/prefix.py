"""What the names of modules begin with, so that designs of different configurations fit into one."""

from __future__ import annotations

import re

from podweave.spec.config_parts import ConfigError

_PREFIX = re.compile(r"[a-z]([a-z0-9_]*[a-z0-9])?")

# IEEE 1800-2017, annex B: those of Verilog are among them.
_VERILOG = """
    accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before begin bind bins binsof bit
    break buf bufif0 bufif1 byte case casex casez cell chandle checker class clocking cmos config const constraint context continue
    cover covergroup coverpoint cross deassign default defparam design disable dist do edge else end endcase endchecker endclass
    endclocking endconfig endfunction endgenerate endgroup endinterface endmodule endpackage endprimitive endprogram endproperty
    endsequence endspecify endtable endtask enum event eventually expect export extends extern final first_match for force foreach
    forever fork forkjoin function generate genvar global highz0 highz1 if iff ifnone ignore_bins illegal_bins implements implies
    import incdir include initial inout input inside instance int integer interconnect interface intersect join join_any join_none
    large let liblist library local localparam logic longint macromodule matches medium modport module nand negedge nettype new
    nexttime nmos nor noshowcancelled not notif0 notif1 null or output package packed parameter pmos posedge primitive priority
    program property protected pull0 pull1 pulldown pullup pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase
    randsequence rcmos real realtime ref reg reject_on release repeat restrict return rnmos rpmos rtran rtranif0 rtranif1 s_always
    s_eventually s_nexttime s_until s_until_with scalared sequence shortint shortreal showcancelled signed small soft solve specify
    specparam static string strong strong0 strong1 struct super supply0 supply1 sync_accept_on sync_reject_on table tagged task this
    throughout time timeprecision timeunit tran tranif0 tranif1 tri tri0 tri1 triand trior trireg type typedef union unique unique0
    unsigned until until_with untyped use uwire var vectored virtual void wait wait_order wand weak weak0 weak1 while wildcard wire
    with within wor xnor xor
"""
# ISO/IEC 9899:2018, 6.4.1, in lower case.
_C = """
    auto break case char const continue default do double else enum extern float for goto if inline int long register restrict
    return short signed sizeof static struct switch typedef union unsigned void volatile while
"""
KEYWORDS = frozenset((_VERILOG + _C).split())


def check_prefix(prefix: str) -> None:
    """Raises `ConfigError` if names in Verilog, C and of files cannot begin with ``prefix`` and an underscore.

    C macros begin with it in capitals, which must not make one of two: it is in lower case.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ConfigError(
            "a prefix is lower-case letters, digits and underscores, begins with a letter and does not end with an underscore, "
            f"got {prefix!r}"
        )
    if prefix in KEYWORDS:
        raise ConfigError(f"a prefix must not be a keyword of Verilog or C, got {prefix!r}")
