"""A service's chassis: what every service of this kind needs, and none would write twice."""
