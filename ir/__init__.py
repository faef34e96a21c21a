"""The network: graphs, their layers and constants, and what reads them from outside."""
