"""Texts by which models are quantised, and others by which the result is judged: questions by lines, prose by paragraphs.

The prose is in the public domain: Carroll, Doyle, the Declaration of Independence and Darwin to quantise; Faraday, Mill, Jerome and
Franklin to judge.
"""
