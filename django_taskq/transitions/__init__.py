"""The only writers of rows.

Each function is one guarded statement: the state it moves from, and for an attempt its fencing
token, stand in the WHERE clause; what it returns says what really moved. A late or second writer
changes nothing. All moments are the database's clock. ``using`` names the ``DATABASES`` alias;
the statement runs on the calling thread's connection, inside its transaction when one is open.
"""
