# What `cmake --install build` puts where: the program, the library, its two headers, a pkg-config file.
# The package is found wherever it is moved to: its prefix is told from the place of this file.
file(RELATIVE_PATH DDPM_PC_UP /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${CMAKE_SOURCE_DIR}/cmake/ddpm.pc.in ${CMAKE_BINARY_DIR}/ddpm.pc @ONLY)
install(TARGETS libddpm LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET ddpm)
  install(TARGETS ddpm RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(FILES include/ddpm.h include/ddpm_status.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${CMAKE_BINARY_DIR}/ddpm.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
