"""What a service stands on: mechanisms that know no resource."""
