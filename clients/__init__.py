"""The services of the cloud beside its databases: Placement and Neutron, over keystoneauth1."""
