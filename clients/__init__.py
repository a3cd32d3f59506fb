"""What is asked beside the databases: Placement and Neutron, over keystoneauth1; the hypervisors, over libvirt."""
