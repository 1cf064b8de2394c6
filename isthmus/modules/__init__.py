"""What a manager does, by module: each is a file with one function `add`, and a row of `table`.

A module takes what it needs from `parts.Parts`, builds its controllers and hands their tasks to the supervisor there.
What one module gives to another is a field of `Parts` too; the table's order is the order in which they are added.
"""
