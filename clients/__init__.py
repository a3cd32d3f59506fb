"""What is asked beside the databases: the hypervisors."""
