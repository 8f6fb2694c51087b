"""Work after the answer has left: messages, their delivery, pools."""
