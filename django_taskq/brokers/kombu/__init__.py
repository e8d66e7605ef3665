"""Any broker that kombu speaks to: connections, the publisher and the consumer.

No rows in here: what a consumer claims, it claims through functions it was given (``brokers.base.Rows``).
Nothing imports this package before an alias names such a broker, so that the embedded one costs no import of kombu.
"""
