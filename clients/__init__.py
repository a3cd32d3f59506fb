"""Services beside the databases: Placement and Neutron (keystoneauth1), hypervisors (libvirt)."""
