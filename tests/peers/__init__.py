"""Commands of the category ``placement`` with real Keystone, Placement and Neutron: ``make
test-peers``.
"""
