"""Tests of whole commands under adverse conditions: killed processes, bad plug-ins, damaged stores, random arguments."""
