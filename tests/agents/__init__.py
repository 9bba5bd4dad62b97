"""Agents: the SDKs that they are made with, and programs that they start."""
