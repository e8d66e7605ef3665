"""Tasks among any number of others: what is looked for, a page of it, failures by kind. Reads only.

No statement in here may cost more the longer the table is: each goes by an index, or through a bounded number of rows.
"""
