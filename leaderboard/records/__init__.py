"""The record of a result: its files, its protocol, and its checks."""
