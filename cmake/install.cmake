# What `cmake --install build` puts where: the program, the library, its two headers, a pkg-config file.
configure_file(${CMAKE_SOURCE_DIR}/cmake/ddpm.pc.in ${CMAKE_BINARY_DIR}/ddpm.pc @ONLY)
install(TARGETS libddpm LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET ddpm)
  install(TARGETS ddpm RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(FILES include/ddpm.h include/ddpm_status.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${CMAKE_BINARY_DIR}/ddpm.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
