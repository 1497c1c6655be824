"""Lets tools that look for setup.py find the package; all metadata is in setup.cfg."""

from setuptools import setup

setup()
