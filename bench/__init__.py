"""What Tollgate costs, measured on this machine: `make bench`, or one part of it by `python -m bench.<part>`.

Every figure is a ratio of two things measured in the same run, interleaved, so that it holds on a slow or a
busy machine too. Parts: gate, over_http, servers, memory, drain. Nothing here is imported by the product.
"""
